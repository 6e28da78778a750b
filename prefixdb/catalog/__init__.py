"""What exists and who may do what: namespaces, the ban manifest, tokens, policy."""
