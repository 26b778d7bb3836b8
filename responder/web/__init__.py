"""Our HTTP surface: health, own metrics, alert intake, incident pages."""
