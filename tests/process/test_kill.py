# SPDX-License-Identifier: Apache-2.0
"""Workers and supervisors that die or hang under load: what is lost, who is told, what comes back."""
