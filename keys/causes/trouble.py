"""What no key is to blame for: money, limits, the network, trouble at Icypeas."""

from __future__ import annotations

from keys import ledger
from keys.causes.facts import NETWORK, VENDOR, Cause, Facts
from people.rights import Right
from people.selectors import who_can


def unpaid(facts: Facts) -> Cause:
    return Cause(
        "The subscription is unpaid",
        VENDOR,
        "Icypeas answered 402, payment required: it lets the account do nothing until something is paid."
        if facts.call.status == 402
        else "Icypeas knows the key and waits for a payment.",
        ["Pay the open invoice at Icypeas.", "Then press Resume on the jobs that wait."],
        _payer(facts),
        "Rotating the key: it was known.",
    )


def _payer(facts: Facts) -> str:
    return f"Whoever pays for the account {facts.key.account.name}: ask {who_can(Right.SET_BUDGETS)}"


def _too_few_words(facts: Facts) -> str:
    account = facts.key.account
    if not account.balance:
        return f"The account {account.name} holds less than the call can cost."
    return (
        f"Icypeas says that the account {account.name} holds less than the call can cost. When its balance was last read, it "
        f"held {ledger.words(account.balance)} credits."
    )


def _enough_steps(facts: Facts) -> list[str]:
    """A job that is refused though there are credits would be resumed for ever."""
    if not facts.key.account.balance:
        return []
    return [
        "If the balance is enough and the job pauses again, credits are not what is missing: ask Icypeas why it refuses these "
        "rows, or cancel the job and take its answers home."
    ]


def out_of_credits(facts: Facts) -> Cause:
    return Cause(
        "The credits do not suffice",
        VENDOR,
        _too_few_words(facts),
        [
            "Buy credits at Icypeas.",
            "Then press Resume on the jobs that wait: no row is lost, and none is paid twice.",
            *_enough_steps(facts),
        ],
        _payer(facts),
        "Another key of the same account: they share one balance.",
    )


def too_many(facts: Facts) -> Cause:
    return Cause(
        "Too many calls for this route",
        VENDOR,
        "Somebody else uses the account beside this app, or its limits were lowered. Nothing was created.",
        [
            "Nothing: the route waits and goes on by itself.",
            "When it keeps happening, find who else uses the account.",
        ],
        facts.admins,
        "Another key of the same account: they share the limits.",
    )


def no_connection(facts: Facts) -> Cause:
    return Cause(
        "Icypeas could not be reached",
        NETWORK,
        "No connection opened, so nothing was sent and nothing is charged.",
        [
            "Look at ICYPEAS_BASE_URL, the name service, the firewall and the proxy of the workers' hosts.",
            "The rows wait and go on by themselves.",
        ],
        "Whoever runs the workers' hosts",
        "Rotating the key: it never left.",
    )


def unclear(facts: Facts) -> Cause:
    return Cause(
        "The answer never came, or could not be read",
        NETWORK,
        "The call may have arrived. What it was about is looked up, and never sent again by itself.",
        [
            "Nothing: what can be settled is settled by itself.",
            "What cannot waits on the job's page for a person.",
        ],
        who_can(Right.SPEND),
        "Starting the list again: what is known is not asked again, and what is unclear is not sent.",
    )


def vendor_trouble(facts: Facts) -> Cause:
    return Cause(
        "Icypeas has trouble of its own",
        VENDOR,
        "A free call failed at their end.",
        ["Nothing: it is read again, at growing distances."],
        "Nobody here",
        "Rotating the key.",
    )
