"""Example projects. They import lynx_pipeline; lynx_pipeline does not import them."""
