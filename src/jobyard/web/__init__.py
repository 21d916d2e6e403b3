"""The service over HTTP: health, metrics, webhooks; the API and the page come to stand beside them."""
