"""WsgiDAV over the folder `share` beside this script; anybody may write."""

import pathlib

from wsgidav.fs_dav_provider import FilesystemProvider
from wsgidav.wsgidav_app import WsgiDAVApp

share = pathlib.Path(__file__).with_name("share")
application = WsgiDAVApp(
    {
        "provider_mapping": {"/": FilesystemProvider(str(share))},
        "simple_dc": {"user_mapping": {"*": True}},
        "verbose": 1,
        "logging": {"enable_loggers": []},
        "lock_storage": True,
        "property_manager": True,
    }
)
