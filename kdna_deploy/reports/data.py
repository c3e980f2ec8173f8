"""Kept for the bench's documents until they are reports."""

from kdna_deploy.reports.report import SCHEMA_VERSION as SCHEMA_VERSION
from kdna_deploy.reports.report import document as document
