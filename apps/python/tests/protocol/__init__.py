"""Tests of the interfaces, written from PEP 3333 and from the specifications of ASGI 3.0, with raw applications."""
