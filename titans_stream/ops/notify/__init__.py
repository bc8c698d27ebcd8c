"""Tells people of alerts: Alertmanager and webhooks, each at its own pace."""
