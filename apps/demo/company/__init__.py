"""Harbourline, the company of the demo: a ferry and freight booking business with six AWS accounts and sixty people.

Data only. Nothing here calls AWS or Django: `apps.demo.seed_aws` puts it into AWS, and the `demo` command signs its
people up.
"""
