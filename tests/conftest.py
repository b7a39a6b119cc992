"""Hypothesis looks for the same counterexamples on every machine; the report says which engine was tested."""

import signal

import hypothesis

import micrograd_bp as mg

# A shell's background job ignores interrupts, and so would the programs that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

hypothesis.settings.register_profile(
    "proof", derandomize=True, deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("proof")


def pytest_report_header() -> str:
    return f"micrograd_bp {mg.__version__}, {mg.engine_name()} engine"
