# SPDX-License-Identifier: Apache-2.0
"""A tenant's process: threads that serve the worker's socket, and a main thread beside them."""
