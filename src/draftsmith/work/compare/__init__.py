"""The comparison as a job: servers, prompts, blocks, samples."""
