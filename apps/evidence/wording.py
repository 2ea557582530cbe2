"""The audit log in words: who did what to which thing. The event's own name always stands below, so that nothing hides
behind a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from django.urls import NoReverseMatch, reverse

from apps.audit.models import AuditEvent

# Event name → what the actor did, with {} for the subject; without it where that is always the actor.
PHRASES = {
    "access.access_request.asked_longer": "asked to hold longer: {}",
    "access.access_request.asked": "asked for {}",
    "access.access_request.confirmed": "confirmed {}",
    "access.access_request.approved": "approved {}",
    "access.access_request.denied": "denied {}",
    "access.access_request.withdrawn": "withdrew {}",
    "access.access_request.requester_left": "withdrew {}: whoever asked has left",
    "access.access_request.approver_left": "asked others about {}: an approver left",
    "access.access_request.lapsed": "let {} lapse: nobody decided in time",
    "access.offer.made": "put {} into the catalogue",
    "access.offer.withdrawn": "took {} out of the catalogue",
    "evidence.export.made": "exported {}",
    "evidence.pack.made": "made {}",
    "grants.grant.issued": "issued {}",
    "grants.grant.claimed": "began to open {}",
    "grants.grant.end_written": "wrote the end of {} into AWS before its start",
    "grants.grant.active": "read {} back as active",
    "grants.grant.extension_decided": "decided to extend {}",
    "grants.grant.extended": "agreed on a later end of {}",
    "grants.grant.end_moved": "read back that AWS ends {} later",
    "grants.grant.extension_refused": "did not extend {}",
    "grants.grant.ending_soon": "saw that {} ends soon",
    "grants.grant.revoking": "began to end {}",
    "grants.grant.removal_decided": "decided to remove {}",
    "grants.grant.credentials_minted": "was given a session of {}",
    "grants.grant.credentials_refused": "refused a session of {}: it has no authority",
    "grants.grant.denied": "read back that AWS denies {}",
    "grants.grant.revoked": "read {} back as gone",
    "grants.grant.overdue": "saw that the removal of {} is overdue",
    "grants.grant.failed": "could not open {}",
    "grants.grant.warrant_refused": "refused {}: its warrant does not hold",
    "grants.grant.object_refused": "did not write what {} names in AWS: it is about another object",
    "grants.grant.cancelled": "cancelled {} before it began",
    "grants.reconciliation.settled": "finished {}",
    "grants.reconciliation.incomplete": "could not finish {}: something was not read",
    "grants.reconciliation.held": "stopped {}: it would change suspiciously much",
    "grants.reconciliation.release_proposed": "said that what {} found is real",
    "grants.reconciliation.released": "let what {} found be put right",
    "grants.leaving.noticed": "saw that {}, and ended what could be given again",
    "grants.leaving.passed_on": "passed on what was left when {}",
    "grants.leaving.returned": "saw somebody come back after {}",
    "grants.exodus.held": "stopped: {}, which is suspiciously many",
    "grants.exodus.release_proposed": "said that they really left: {}",
    "grants.exodus.released": "let go what was held: {}",
    "grants.exodus.over": "saw everybody come back: {}",
    "grants.drift.repair_decided": "decided to put {} right",
    "grants.drift.repaired": "read back that {} is put right",
    "grants.drift.accepted": "let {} stay for a while",
    "grants.home.found": "began to know {}",
    "grants.home.changed": "saw another database: {}. Nothing opens from it yet",
    "grants.home.doubted": "doubted {}: nothing opens from it",
    "grants.home.trusted": "trusts {} again",
    "grants.grant.ended_by_ender": "ended {} in AWS, since nobody else had",
    "grants.stop.ordered": "ordered stop {}",
    "grants.stop.written": "read stop {} back in AWS",
    "grants.stop.lift_proposed": "proposed to lift stop {}",
    "grants.stop.lift_signed": "signed as the second that stop {} may go",
    "grants.stop.object_refused": "did not write stop {} into what it names in AWS: it is about another object",
    "grants.stop.lifted": "lifted stop {}",
    "grants.stop.lift_refused": "did not lift stop {}: its signatures do not hold",
    "grants.stop.cleared": "took what a lifted stop said out of AWS: {}",
    "inventory.connection.added": "added the connection {}",
    "inventory.connection.changed": "changed the connection {}",
    "inventory.connection.changes_followed": "read again what changed in {}",
    "inventory.connection.test_requested": "asked for a test of {}",
    "inventory.connection_test.finished": "finished {}",
    "inventory.connection.baselined": "took what stands in {} as its baseline",
    "inventory.connection.org_chart_imported": "imported the org chart of {}",
    "inventory.hr_file.looked_at": "looked at what the HR file {} would change",
    "inventory.hr_file.discarded": "threw the HR file {} away",
    "inventory.identity.departed": "saw that the last day of {} is over",
    "inventory.connection.paused": "paused {}",
    "inventory.connection.resumed": "resumed {}",
    "inventory.connection.sync_requested": "asked for a sync of {}",
    "inventory.connection.writing_proposed": "proposed to let Gatehouse change {}",
    "inventory.connection.writing_approved": "approved that Gatehouse may change {}",
    "inventory.entitlement.defined": "defined {}",
    "inventory.entitlement.owner_set": "named the owner of {}",
    "inventory.identity.handed_over": "handed over what {} owned",
    "inventory.identity.owner_set": "named the owner of {}",
    "inventory.principal.owner_set": "named the owner of {}",
    "inventory.resource.owner_set": "named the owner of {}",
    "inventory.connection.correlated": "settled whose logins are whose in {}",
    "inventory.identity.corrected": "said what {} is",
    "inventory.identity.correction_taken_back": "took back what was said about {}",
    "inventory.identity.described": "wrote down what {} is for",
    "inventory.identity.renamed": "kept what was said about {} when it got this name",
    "inventory.identity.successor_set": "named who comes after the owner of {}",
    "inventory.principal.linked": "said whose login {} is",
    "inventory.principal.unlinked": "said that {} is not this person's login",
    "inventory.principal.called_machine": "said that {} is a machine",
    "inventory.principal.put_off": "put off whose login {} is",
    "inventory.identity.user_linked": "linked a portal user to {}",
    "inventory.identity.user_unlinked": "unlinked a portal user from {}",
    "inventory.resource.environment_set": "said which environment {} is",
    "inventory.sync_run.drop_confirmed": "confirmed what {} would end",
    "inventory.sync_run.finished": "finished {}",
    "inventory.trail_run.finished": "finished {}",
    "notifications.cursor.rebased": "moved the cursor of {} to now",
    "reviews.move.many_proposed": "drafted reviews of many movers in {}",
    "reviews.campaign.discarded": "threw the draft of the review {} away",
    "reviews.campaign.drafted": "drafted the review {}",
    "reviews.campaign.launched": "launched the review {}",
    "reviews.campaign.reminded": "reminded the reviewers of {}",
    "reviews.campaign.closed": "closed the review {}",
    "reviews.review_item.decided": "decided about {}",
    "reviews.review_item.reassigned": "passed {} on to another reviewer",
    "reviews.sign_off.submitted": "submitted a sign-off: {}",
    "scim.source.added": "added the identity provider {}",
    "scim.token.made": "made the SCIM token {}",
    "scim.token.revoked": "revoked the SCIM token {}",
    "scim.token.refused": "was refused with the SCIM token {}",
    "scim.user.created": "said that {} is there",
    "scim.user.updated": "said something else about {}",
    "scim.user.deactivated": "said that {} is not active any more",
    "scim.user.reactivated": "said that {} is active again",
    "scim.user.deleted": "said that {} is gone",
    "scim.user.linked": "linked the SCIM user {} to a person",
    "scim.user.unlinked": "unlinked the SCIM user {} from a person",
    "scim.group.created": "said that there is the group {}",
    "scim.group.updated": "said something else about the group {}",
    "scim.group.deleted": "said that the group {} is gone",
    "users.authenticator.added": "added an authenticator of {}",
    "users.authenticator.removed": "removed an authenticator of {}",
    "users.authenticator.reset": "made new recovery codes for {}",
    "insights.inspection.found": "looked for what should not be so in {}",
    "insights.finding.accepted": "let {} stay for a while",
    "insights.finding.resolved": "said that {} is done",
    "users.passkey.seen": "saw a passkey of {} for the first time",
    "users.passkey.ended": "took a passkey of {} out of use",
    "users.portal_role.given": "gave a portal role to {}",
    "users.portal_role.taken": "took a portal role from {}",
    "users.user.deactivated": "kept {} out of the portal",
    "users.user.reactivated": "let {} in again",
    "users.user.emergency_sign_in": "signed in past single sign-on as {}",
    "users.user.first_administrator": "made {} the first administrator",
    "users.user.invited": "invited {}",
    "users.user.linked": "linked {} to an account at the identity provider",
    "users.user.unlinked": "unlinked {} from the identity provider",
    "users.user.named_for_emergencies": "named {} for emergencies",
    "users.user.no_longer_for_emergencies": "no longer names {} for emergencies",
    "users.user.password_changed": "changed the password of {}",
    "users.user.password_reset": "reset the password of {}",
    "users.user.password_set": "set a password for {}",
    "users.user.signed_in": "signed in",
    "users.user.stepped_up": "confirmed with a code or passkey",
    "users.user.step_up_failed": "failed to confirm with a code or passkey",
}

# What a subject is → the page about it, by primary key.
PAGES = {
    "access.accessrequest": "access:detail",
    "grants.grant": "grants:detail",
    "grants.drift": "drift:detail",
    "grants.stop": "stops:detail",
    "grants.leaving": "leavers:detail",
    "insights.finding": "insights:finding",
    "inventory.entitlement": "inventory:entitlement",
    "inventory.identity": "inventory:identity",
    "inventory.resource": "inventory:account",
    "reviews.campaign": "reviews:campaign",
}

# The first word of an event's name → what it is about.
AREAS = [
    ("access", "Requests and offers"),
    ("grants", "Grants"),
    ("reviews", "Reviews"),
    ("inventory", "Inventory"),
    ("insights", "Findings"),
    ("users", "People and sign-in"),
    ("scim", "Identity providers"),
    ("evidence", "Evidence"),
    ("notifications", "Notifications"),
]


@dataclass(frozen=True)
class Line:
    """One event as the audit page shows it."""

    event: AuditEvent

    @cached_property
    def _phrase(self) -> str:
        noun, _, done = self.event.event.partition(".")[2].replace("_", " ").rpartition(".")
        return PHRASES.get(self.event.event, f"recorded “{noun} {done}” about {{}}")

    @cached_property
    def _pieces(self) -> tuple[str, str]:
        before, _, after = self._phrase.partition("{}")
        return before.strip(), after.strip()

    @property
    def before(self) -> str:
        return self._pieces[0]

    @property
    def after(self) -> str:
        after = self._pieces[1]
        return after if not after or after[0] in ",:." else f" {after}"

    @property
    def subject(self) -> str:
        if "{}" not in self._phrase:
            return ""
        return self.event.subject_name or self.event.subject

    @property
    def url(self) -> str:
        return page_of(self.event.subject)

    @property
    def is_machine(self) -> bool:
        return self.event.actor_kind != AuditEvent.ActorKind.PERSON

    @property
    def data(self) -> str:
        return json.dumps(self.event.data, indent=2, ensure_ascii=False, sort_keys=True)

    @property
    def origin(self) -> str:
        return json.dumps(self.event.origin, indent=2, ensure_ascii=False, sort_keys=True) if self.event.origin else ""


def page_of(subject: str) -> str:
    """The page about what the log names so ("grants.grant:42"); "" where there is none."""
    label, _, key = subject.partition(":")
    if label not in PAGES or not key.isdigit():
        return ""
    try:
        return reverse(PAGES[label], args=[int(key)])
    except NoReverseMatch:
        return ""
