"""Example projects. They use lynx_pipeline; lynx_pipeline does not know them."""
