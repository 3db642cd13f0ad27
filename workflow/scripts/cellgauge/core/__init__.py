"""What any job may import: errors, files written whole, plug-ins by name, threads, GPUs. Small, and hardly ever changed."""
