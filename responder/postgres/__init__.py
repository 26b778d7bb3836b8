"""What do several responders share? One PostgreSQL: memory, leases of targets, work of capture agents."""
