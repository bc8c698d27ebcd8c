"""The Kafka client: settings, protocols, deadlines, errors."""
