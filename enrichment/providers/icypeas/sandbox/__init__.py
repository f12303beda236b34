"""A local Icypeas: the documented routes, an account balance and a clock, as a process of its own.

It is a second, independent reading of the vendor's documentation. So it imports nothing of the client
and nothing of the rest of this product, and knows no Django::

    python -m enrichment.providers.icypeas.sandbox --port 8100 --state var/sandbox --speed 10

Start-up, accounts and options: `cli`. Routes: `routes`. Switches for tests and demos: `control`.

**Answers depend on the input alone.** The same question always gets the same answer, whoever asks and when.
About 62 % of e-mail searches find something; verifications are about 70 % deliverable, 8 % probable,
14 % undeliverable and 8 % not_found; about 55 % of domain searches find something. Of reverse look-ups and searches for
pages 60 % find one, 85 % of pages can be read; lists of leads know 4,000 people and 400 companies.

**Chosen answers.** A name, the local part of an address or a label of a domain that contains one of
these words forces what happens. Several may be combined. In a domain label write `-` for `_`.

======================  ==============================================================================
`sbx-found`             FOUND, certainty `ultra_sure`
`sbx-debited`           DEBITED (the other spelling of found), certainty `ultra_sure`
`sbx-notfound`          NOT_FOUND, no address
`sbx-debitednotfound`   DEBITED_NOT_FOUND, no address; charged where an empty answer is charged
`sbx-badinput`          BAD_INPUT: never runs, free
`sbx-nofunds`           INSUFFICIENT_FUNDS: never runs, free
`sbx-aborted`           ABORTED: never runs, free
`sbx-unknownstatus`     the undocumented status `ON_REVIEW` with a good address, free
`sbx-noresults`         FOUND and charged, but the item has no `results` key
`sbx-certainty-VALUE`   found with that certainty, also an undocumented one; `sbx-certainty-very_sure`
`sbx-uppercase`         found, certainties written in capitals
`sbx-manyemails`        found, with four addresses of falling certainty
`sbx-emailonnotfound`   NOT_FOUND that still carries an address
`sbx-slow`              takes a minute longer (sandbox time) than it would
`sbx-stuck`             stays IN_PROGRESS for ever
======================  ==============================================================================
"""
