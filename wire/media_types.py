"""Media types of files that the upstream's models see or read, each with its file extension."""

from __future__ import annotations

PICTURES = {
    "image/jpeg": ".jpg",
    "image/webp": ".webp",
    "image/png": ".png",
    "image/gif": ".gif",
}
"""Types that a model sees."""

DOCUMENTS = {
    "text/x-php": ".php",
    "application/msword": ".doc",
    "text/x-c": ".c",
    "text/html": ".html",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/json": ".json",
    "text/javascript": ".js",
    "application/pdf": ".pdf",
    "text/x-java": ".java",
    "text/x-tex": ".tex",
    "text/x-typescript": ".ts",
    "text/x-sh": ".sh",
    "text/x-csharp": ".cs",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "text/x-c++": ".cpp",
    "application/x-latext": ".latex",  # sic: the predecessor's list
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/x-ruby": ".rb",
    "text/x-script.python": ".py",
}
"""Types that a model reads and searches. All others go to the code interpreter."""
