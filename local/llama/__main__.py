"""`python -m local.llama`: llama.cpp's own HTTP server in the foreground, until a signal."""

from __future__ import annotations

import argparse
import os
import signal
import tempfile
import threading
from pathlib import Path

import xllamacpp

from local.llama.tiny_model import write_model


def main() -> None:
    """Serve a model, by default a tiny random one, and say when it is ready."""
    arguments = _parser().parse_args()
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with tempfile.TemporaryDirectory(prefix="llama-") as directory:
        model = arguments.model
        if not model:
            model = Path(directory) / "tiny.gguf"
            write_model(model, context=arguments.context, layers=arguments.layers)
        server = xllamacpp.Server(_parameters(arguments, model))
        # The file stays mapped into memory, so its directory may go.
    print(f"llama ready on {server.listening_address}", flush=True)
    stopped.wait()
    os._exit(0)  # its threads hold the answers that are still open


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m local.llama", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument("--slots", type=int, default=2, help="answers at the same time")
    parser.add_argument("--context", type=int, default=8192, help="tokens of a slot")
    parser.add_argument("--model", type=Path, help="a GGUF file instead of the random model")
    parser.add_argument(
        "--layers", type=int, default=2, help="of the random model: more are slower"
    )
    parser.add_argument("--alias", action="append", default=[], help="a name of the model")
    parser.add_argument("--api-key", action="append", default=[], help="a bearer to require")
    parser.add_argument("--predict", type=int, default=-1, help="tokens of an answer at most")
    return parser


def _parameters(arguments: argparse.Namespace, model: Path) -> xllamacpp.CommonParams:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = set(arguments.alias or ["tiny-llama"])
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = arguments.port
    parameters.api_keys = arguments.api_key
    parameters.n_parallel = arguments.slots
    parameters.n_ctx = arguments.context * arguments.slots
    parameters.n_predict = arguments.predict
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    parameters.endpoint_slots = True
    parameters.endpoint_props = True
    parameters.endpoint_metrics = True
    parameters.warmup = False
    parameters.verbosity = 1
    return parameters


if __name__ == "__main__":
    main()
