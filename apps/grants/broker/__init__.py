"""The broker: a process of its own that makes sessions for grants whose holders ask for one, over a local socket.

`server` answers, `minting` decides whether anything is made, `client` is all that the web process has of it, and `wire` is
what both speak. The broker trusts no request: it reads the grant, its warrant and its holder itself.
"""
