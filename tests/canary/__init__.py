"""Is a secret anywhere where it must not be? `make canary`: a real installation is given secrets that nobody else has, is used
and broken in every way we know of, and everything that it left behind is searched for them."""
