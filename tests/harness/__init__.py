# SPDX-License-Identifier: Apache-2.0
"""Real httpd instances for tests: configuration, life, client, error log and census."""
