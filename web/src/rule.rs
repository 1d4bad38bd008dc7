//! The rules of conversations as people understand them: families of what core names one by one.

/// The words for the rule with this name.
pub(crate) fn words(rule: &str) -> &'static str {
    match rule {
        "MissingObject" | "TooManyCommits" | "TooTangled" | "MalformedCommit" | "NotACommit"
        | "CommitterDiffers" | "MalformedMessage" | "TooManyParents" | "MalformedTree"
        | "NotAPlainFile" => "rule/damaged",
        "ForeignRoot"
        | "SecondInitial"
        | "RootIsNotInitial"
        | "InitialIncomplete"
        | "InitialWithoutInvited"
        | "UnknownMode" => "rule/beginning",
        "MissingSignature" | "WrongSignature" => "rule/signature",
        "DeviceNotAuthorised"
        | "DeviceWithoutAccount"
        | "CertificateExpired"
        | "ForgedDevice"
        | "UnreadableCertificate"
        | "CertificateMismatch"
        | "DeviceOfOtherAccount" => "rule/device",
        "NotAMember" => "rule/stranger",
        "NotForUs" => "rule/not-for-us",
        "ConversationTooLarge" | "PackTooManyObjects" | "PackTooLarge" => "rule/too-large",
        "BannedDevice" => "rule/banned",
        "UnknownPath"
        | "UnexpectedFile"
        | "AttachmentMisnamed"
        | "MessageInDocument"
        | "CheckpointOutsideDocument" => "rule/files",
        "VoteByNonAdmin" | "VoteInOtherName" | "VoteWithoutFile" | "VoteNotNew"
        | "VoteFileNotEmpty" | "VoteAboutSelf" | "VoteAboutStranger" | "VoteMessageDiffers" => {
            "rule/vote"
        }
        "BanByNonAdmin" | "BanWithoutMajority" | "BanWithoutEffect" | "BanChangesContent" => {
            "rule/ban"
        }
        "BadMemberUri"
        | "ThirdInOneToOne"
        | "AddSelf"
        | "AddWithoutFile"
        | "InvitedFileNotEmpty" => "rule/invite",
        "InviteByNonAdmin" => "rule/invite-not-admin",
        "AddBanned" => "rule/invite-banned",
        // The page's own: see `Verdict::about`.
        "ShownOtherwise" => "rule/shown-otherwise",
        "JoinWithoutInvite"
        | "JoinKeepsInvite"
        | "JoinTwice"
        | "JoinWithoutCertificate"
        | "JoinForOther" => "rule/join",
        "RemoveOther" | "RemoveWrites" | "ForeignDevice" => "rule/leave",
        "ProfileByNonAdmin" => "rule/profile",
        "EditOfUnknown" | "EditOfForeign" | "EditOfNonMessage" => "rule/edit",
        "MergeWithMessage" | "MergeWithContent" | "MergeUndoes" => "rule/merge",
        // A newer core names its rules after what they are about.
        _ => by_beginning(rule),
    }
}

fn by_beginning(rule: &str) -> &'static str {
    let families = [
        ("Initial", "rule/beginning"),
        ("Vote", "rule/vote"),
        ("Ban", "rule/ban"),
        ("Unban", "rule/ban"),
        ("Add", "rule/invite"),
        ("Invite", "rule/invite"),
        ("Join", "rule/join"),
        ("Remove", "rule/leave"),
        ("Profile", "rule/profile"),
        ("Edit", "rule/edit"),
        ("Merge", "rule/merge"),
        ("Malformed", "rule/damaged"),
        ("Pack", "rule/damaged"),
        ("Device", "rule/device"),
        ("Certificate", "rule/device"),
    ];
    families
        .into_iter()
        .find(|(beginning, _)| rule.starts_with(beginning))
        .map_or("rule/other", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every variant that core has, read from its source: a new rule must find its words.
    #[test]
    fn every_rule_of_core_has_words() {
        let source = include_str!("../../core/src/swarm/misbehaviour.rs");
        let body = source
            .split("pub enum Misbehaviour {")
            .nth(1)
            .and_then(|rest| rest.split("\n}\n").next())
            .unwrap_or_default();
        let variants: Vec<&str> = body
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
            .map(|line| {
                line.split(|c: char| !c.is_ascii_alphanumeric())
                    .next()
                    .unwrap_or_default()
            })
            .collect();
        assert!(variants.len() > 50, "{variants:?}");
        let lacking: Vec<_> = variants
            .into_iter()
            .filter(|rule| words(rule) == "rule/other")
            .collect();
        assert!(lacking.is_empty(), "no words for {lacking:?}");
        // And packs, whose faults core names so.
        assert_eq!(words("PackChecksum"), "rule/damaged");
    }
}
