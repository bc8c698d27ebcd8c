"""titans-stream: streaming anomaly detection and forecasting with per-series Titans memories.

The memories follow arXiv 2501.00663; `docs/` holds the method, the formats and the operation.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("titans-stream")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
