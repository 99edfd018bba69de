"""The report of an experiment: sections, pictures and words, written as HTML or Markdown."""
