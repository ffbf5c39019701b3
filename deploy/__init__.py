"""How Hilo is run: the embedded stack of the demo and the tests, images, charts, dashboards."""
