"""A WSGI and ASGI server whose concurrency model is a gear you shift.

The command `gearshift module:app --backend NAME` serves an application; `gearshift --help` lists the flags. Applications
import nothing of this package, except to catch its exceptions:

* `RequestBodyError`: the body of a request cannot be read.
* `ClientDisconnected`: the client has left, and nothing more can be sent to it.

Both are kinds of `OSError`.
"""

from gearshift._gearshift import ClientDisconnected, RequestBodyError

__all__ = ["ClientDisconnected", "RequestBodyError"]
