"""HTTP: for proxies, operators and tenants (contract, section 6)."""
