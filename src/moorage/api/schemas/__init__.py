"""The wire's shapes: what clients send (pydantic models), what they get (typed dicts).

Fields are those of Magnum's API; python-magnumclient, openstacksdk, gophercloud and
Terraform send null for much that they leave unset, so every field that may be left
out may be null. A field that is not named here is refused by its name.
"""
