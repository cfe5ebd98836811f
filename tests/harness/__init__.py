"""Real httpd instances for tests: configuration, life, client, error log and census."""
