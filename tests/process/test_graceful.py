# SPDX-License-Identifier: Apache-2.0
"""`apachectl graceful` under load: no request fails that httpd itself would not fail."""
