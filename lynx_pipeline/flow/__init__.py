"""The steps from eval set to promotion. Each joins rules and adapters and holds neither."""
