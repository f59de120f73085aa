"""The command line: one thin file a verb. A verb imports what it needs when it runs, so that help is instant."""
