"""Every known way to become more powerful in AWS by permissions alone: id → what it takes.

Ids and permissions are facts from DataDog pathfinding.cloud (https://github.com/DataDog/pathfinding.cloud), Apache-2.0.
They are kept apart from `escalation_paths.json`, which leaves out what a shorter path covers, so that a path that gets
lost there is missed here.
"""

KNOWN: dict[str, tuple[str, ...]] = {
    "apprunner-001": (
        "iam:PassRole",
        "apprunner:CreateService",
    ),
    "apprunner-002": ("apprunner:UpdateService",),
    "bedrock-001": (
        "iam:PassRole",
        "bedrock-agentcore:CreateCodeInterpreter",
        "bedrock-agentcore:StartCodeInterpreterSession",
        "bedrock-agentcore:InvokeCodeInterpreter",
    ),
    "bedrock-002": (
        "bedrock-agentcore:StartCodeInterpreterSession",
        "bedrock-agentcore:InvokeCodeInterpreter",
    ),
    "cloudformation-001": (
        "iam:PassRole",
        "cloudformation:CreateStack",
    ),
    "cloudformation-002": ("cloudformation:UpdateStack",),
    "cloudformation-003": (
        "iam:PassRole",
        "cloudformation:CreateStackSet",
        "cloudformation:CreateStackInstances",
    ),
    "cloudformation-004": (
        "iam:PassRole",
        "cloudformation:UpdateStackSet",
    ),
    "cloudformation-005": (
        "cloudformation:CreateChangeSet",
        "cloudformation:ExecuteChangeSet",
    ),
    "codebuild-001": (
        "iam:PassRole",
        "codebuild:CreateProject",
        "codebuild:StartBuild",
    ),
    "codebuild-002": ("codebuild:StartBuild",),
    "codebuild-003": ("codebuild:StartBuildBatch",),
    "codebuild-004": (
        "iam:PassRole",
        "codebuild:CreateProject",
        "codebuild:StartBuildBatch",
    ),
    "datapipeline-001": (
        "iam:PassRole",
        "datapipeline:CreatePipeline",
        "datapipeline:PutPipelineDefinition",
        "datapipeline:ActivatePipeline",
    ),
    "ec2instanceconnect-003": (
        "ec2-instance-connect:SendSSHPublicKey",
        "ec2:DescribeInstances",
    ),
    "ec2-001": (
        "iam:PassRole",
        "ec2:RunInstances",
    ),
    "ec2-002": (
        "ec2:ModifyInstanceAttribute",
        "ec2:StopInstances",
        "ec2:StartInstances",
    ),
    "ec2-003": (
        "iam:PassRole",
        "ec2:RequestSpotInstances",
    ),
    "ec2-004": (
        "ec2:CreateLaunchTemplateVersion",
        "ec2:ModifyLaunchTemplate",
    ),
    "ecs-001": (
        "iam:PassRole",
        "ecs:CreateCluster",
        "ecs:RegisterTaskDefinition",
        "ecs:CreateService",
    ),
    "ecs-002": (
        "iam:PassRole",
        "ecs:CreateCluster",
        "ecs:RegisterTaskDefinition",
        "ecs:RunTask",
    ),
    "ecs-003": (
        "iam:PassRole",
        "ecs:RegisterTaskDefinition",
        "ecs:CreateService",
    ),
    "ecs-004": (
        "iam:PassRole",
        "ecs:RegisterTaskDefinition",
        "ecs:RunTask",
    ),
    "ecs-005": (
        "iam:PassRole",
        "ecs:RegisterTaskDefinition",
        "ecs:StartTask",
    ),
    "glue-001": (
        "iam:PassRole",
        "glue:CreateDevEndpoint",
    ),
    "glue-002": ("glue:UpdateDevEndpoint",),
    "glue-003": (
        "iam:PassRole",
        "glue:CreateJob",
        "glue:StartJobRun",
    ),
    "glue-004": (
        "iam:PassRole",
        "glue:CreateJob",
        "glue:CreateTrigger",
    ),
    "glue-005": (
        "iam:PassRole",
        "glue:UpdateJob",
        "glue:StartJobRun",
    ),
    "glue-006": (
        "iam:PassRole",
        "glue:UpdateJob",
        "glue:CreateTrigger",
    ),
    "iam-001": ("iam:CreatePolicyVersion",),
    "iam-002": ("iam:CreateAccessKey",),
    "iam-003": (
        "iam:CreateAccessKey",
        "iam:DeleteAccessKey",
    ),
    "iam-004": ("iam:CreateLoginProfile",),
    "iam-005": ("iam:PutRolePolicy",),
    "iam-006": ("iam:UpdateLoginProfile",),
    "iam-007": ("iam:PutUserPolicy",),
    "iam-008": ("iam:AttachUserPolicy",),
    "iam-009": ("iam:AttachRolePolicy",),
    "iam-010": ("iam:AttachGroupPolicy",),
    "iam-011": ("iam:PutGroupPolicy",),
    "iam-012": ("iam:UpdateAssumeRolePolicy",),
    "iam-013": ("iam:AddUserToGroup",),
    "iam-014": (
        "iam:AttachRolePolicy",
        "sts:AssumeRole",
    ),
    "iam-015": (
        "iam:AttachUserPolicy",
        "iam:CreateAccessKey",
    ),
    "iam-016": (
        "iam:CreatePolicyVersion",
        "sts:AssumeRole",
    ),
    "iam-017": (
        "iam:PutRolePolicy",
        "sts:AssumeRole",
    ),
    "iam-018": (
        "iam:PutUserPolicy",
        "iam:CreateAccessKey",
    ),
    "iam-019": (
        "iam:AttachRolePolicy",
        "iam:UpdateAssumeRolePolicy",
    ),
    "iam-020": (
        "iam:CreatePolicyVersion",
        "iam:UpdateAssumeRolePolicy",
    ),
    "iam-021": (
        "iam:PutRolePolicy",
        "iam:UpdateAssumeRolePolicy",
    ),
    "lambda-001": (
        "iam:PassRole",
        "lambda:CreateFunction",
        "lambda:InvokeFunction",
    ),
    "lambda-002": (
        "iam:PassRole",
        "lambda:CreateFunction",
        "lambda:CreateEventSourceMapping",
    ),
    "lambda-003": ("lambda:UpdateFunctionCode",),
    "lambda-004": (
        "lambda:UpdateFunctionCode",
        "lambda:InvokeFunction",
    ),
    "lambda-005": (
        "lambda:UpdateFunctionCode",
        "lambda:AddPermission",
    ),
    "lambda-006": (
        "iam:PassRole",
        "lambda:CreateFunction",
        "lambda:AddPermission",
    ),
    "sagemaker-001": (
        "iam:PassRole",
        "sagemaker:CreateNotebookInstance",
    ),
    "sagemaker-002": (
        "iam:PassRole",
        "sagemaker:CreateTrainingJob",
    ),
    "sagemaker-003": (
        "iam:PassRole",
        "sagemaker:CreateProcessingJob",
    ),
    "sagemaker-004": ("sagemaker:CreatePresignedNotebookInstanceUrl",),
    "sagemaker-005": (
        "sagemaker:CreateNotebookInstanceLifecycleConfig",
        "sagemaker:StopNotebookInstance",
        "sagemaker:UpdateNotebookInstance",
        "sagemaker:StartNotebookInstance",
    ),
    "ssm-001": ("ssm:StartSession",),
    "ssm-002": ("ssm:SendCommand",),
    "sts-001": ("sts:AssumeRole",),
}
