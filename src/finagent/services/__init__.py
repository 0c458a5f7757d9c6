"""What happens when: the pipeline, the queue, the order protocol."""
