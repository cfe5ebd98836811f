# SPDX-License-Identifier: Apache-2.0
"""What httpd says when it does not start, with the remedy for what users meet."""

import re
from pathlib import Path

REMEDIES = (
    (
        r"structure '?wsgi_module'? in file .* is garbled"
        r"|not compatible with this version of Apache|mod_pyglue\.so: undefined symbol",
        "mod_pyglue.so was built for another httpd. Install this one's headers (apt-get install "
        "apache2-dev, dnf install httpd-devel), then mod-pyglue again without pip's cache: "
        "pip install --force-reinstall --no-cache-dir mod-pyglue.",
    ),
    (
        r"Address already in use|could not bind to address|no listening sockets available",
        "The address is in use by another program: choose another port.",
    ),
    (
        r"failed to set up sockaddr",
        "The name has no address here: name an address of this machine (Listen, or --host of "
        "`pyglue serve`).",
    ),
    (
        r"mod_pyglue\.so.*: cannot open shared object file",
        "mod_pyglue.so is not where the configuration says: take the lines of "
        "`pyglue module-config`.",
    ),
    (
        r"has not been designed to serve pages while",
        "httpd does not serve as root: name another user (User, or --user of `pyglue serve`).",
    ),
    (r"bad (user|group) name", "That user or group does not exist on this machine."),
    (
        r"[Ii]nvalid command 'WSGI",
        "If mod_pyglue is not loaded before this line, put what `pyglue module-config` prints "
        "above. If it is, the name is misspelt or this version does not have the directive: "
        "`httpd -L` lists those that it has.",
    ),
)


def explained(said: str, configuration: Path) -> str:
    """httpd's own words, where it read them, and how to mend it if we know."""
    text = said.strip() or "httpd said nothing"
    remedy = next((remedy for pattern, remedy in REMEDIES if re.search(pattern, said)), "")
    return "\n".join(filter(None, [f"httpd does not accept {configuration}:", text, remedy]))
