"""The registration of the bridge that the scenarios run: written for the server, and read by the scenarios.

Run by itself, it prints one whose bridge listens at the port that is its argument.
"""

import secrets
import sys

TEMPLATE = """\
id: python
url: http://127.0.0.1:{port}
as_token: {as_token}
hs_token: {hs_token}
sender_localpart: pythonbot
rate_limited: false
namespaces:
    users:
    -   exclusive: true
        regex: '@_python_.*:localhost'
    aliases:
    -   exclusive: true
        regex: '#_python_.*:localhost'
    rooms: []
receive_ephemeral: true
org.matrix.msc3202: true
io.element.msc4190: true
"""


def read(path):
    """The values of the registration at a path that stand on lines of their own."""
    with open(path) as file:
        pairs = (line.split(": ", 1) for line in file if ": " in line and line[0].isalpha())
        return {key: value.strip() for key, value in pairs}


if __name__ == "__main__":
    print(TEMPLATE.format(port=sys.argv[1], as_token=secrets.token_hex(32), hs_token=secrets.token_hex(32)), end="")
