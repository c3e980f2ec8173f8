"""Same numbers (`parity`)? Same accuracy (`accuracy`)? Of sessions and files, whatever they run on."""
