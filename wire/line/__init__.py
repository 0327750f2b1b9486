"""The waiting line: admission, order, leases, and the Lua scripts that change them."""
