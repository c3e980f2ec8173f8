"""Kept for the bench's tables until they are reports."""

from kdna_deploy.reports.terminal import facts as facts
