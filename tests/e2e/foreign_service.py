"""A responses service that others wrote, azure-ai-agentserver-responses: run as a process with the port to listen on.

Jobs do as their prompt says: ``fail`` raises, ``sleep`` goes on until it is cancelled, all others answer.
"""

import asyncio
import os
import sys
import tempfile

os.chdir(tempfile.mkdtemp())  # whatever it keeps, it keeps here

from azure.ai.agentserver.responses import ResponsesAgentServerHost, TextResponse  # noqa: E402 - after the chdir

app = ResponsesAgentServerHost(configure_observability=None)  # no telemetry: it would ask the network


@app.response_handler
async def handler(request, context, cancellation_signal: asyncio.Event):
    prompt = await context.get_input_text()

    async def answer():  # after the job was created: the POST is answered before
        if prompt.startswith("sleep"):
            await asyncio.wait_for(cancellation_signal.wait(), 3600)
        await asyncio.sleep(0.2)
        if prompt.startswith("fail"):
            raise RuntimeError("told to fail")
        yield f"you said: {prompt}"

    return TextResponse(context, request, text=answer())


app.run(host="127.0.0.1", port=int(sys.argv[1]))
