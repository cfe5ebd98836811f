# SPDX-License-Identifier: Apache-2.0
"""Stop and hard restart: bounded in time, and nothing is left over."""
