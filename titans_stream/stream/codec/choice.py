"""Which codec a connector's input needs: the one place that knows all of them."""

from __future__ import annotations

from titans_stream.stream.codec.codec import Codec
from titans_stream.stream.codec.json_codec import JsonCodec
from titans_stream.stream.settings import InputConfig


def codec_for(config: InputConfig) -> Codec:
    """The codec of an input. Messages are JSON."""
    return JsonCodec(config)
