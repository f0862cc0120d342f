"""What inference counts beside its requests. No machine labels: the store answers questions about one machine."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The service's figures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.windows = Counter(
            "im_inference_windows",
            "windows of requests, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.batch = Histogram(
            "im_inference_batch_windows", "windows in one run of a model", registry=registry, buckets=_WINDOWS
        )
        self.queued = Gauge(
            "im_inference_queued_windows", "windows of requests that wait or run", registry=registry
        )
        self.reloads = Counter(
            "im_inference_reloads", "promoted versions loaded, by outcome", ["outcome"], registry=registry
        )
        self.loaded = Gauge("im_inference_loaded_models", "versions that are loaded", registry=registry)
        self.lives = Counter(
            "im_inference_lives",
            "answers of remaining life, by what they say",
            ["outcome"],
            registry=registry,
        )
        self.scored = Counter(
            "im_inference_scored_windows", "windows scored from the log and stored there", registry=registry
        )
        self.machines = Gauge(
            "im_inference_machines", "machines with no edge that are scored", registry=registry
        )
        self.lag = Gauge(
            "im_inference_lag_records", "records of readings not yet looked at", registry=registry
        )
