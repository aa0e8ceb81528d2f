"""Clients of LLM services behind one small interface: calls in, outcomes out as they come, in any order.

    client = make_client(settings, workdir)
    for outcome in client.complete(calls): ...

`chat` says what a call and an answer are; `openai_service` and `anthropic_service` how each service puts them; `client`
asks one by one, many at once, `batch` in the services' batch queues. Both keep every answer in `cache`, every dollar in
`ledger`, and stay below the limits given.
"""
