"""The telemetry store on InfluxDB 2.7."""
