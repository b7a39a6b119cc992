"""Hypothesis looks for the same counterexamples on every machine; the report says which engine was tested."""

import hypothesis

import micrograd_bp as mg

hypothesis.settings.register_profile(
    "proof", derandomize=True, deadline=None, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("proof")


def pytest_report_header():
    return f"micrograd_bp {mg.__version__}, {mg.engine_name()} engine"
