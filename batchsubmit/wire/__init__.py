"""Calls past an AWS client's pipeline, where that makes no difference on the wire: the parts that services share.

aiobotocore spends two thirds of a call's CPU on work that brings the same for each: endpoint rules, event hooks, a
shape-driven serializer, the building of headers. So a client is made to *rehearse* a call when it is opened: it goes
all the way to the `transport`, which shows the request instead of sending it. From that request come URL, headers and
the `signature`'s scope, and `rehearsal` makes others from these parts. **Only if that brings the very same request,
signature included, are calls made so.**

What stays botocore's in any case: credentials and their refresh, the endpoint, the transport (the client's own, with
its proxies, certificates, time-outs and exceptions) and the reading of every answer but a plain one.
"""
