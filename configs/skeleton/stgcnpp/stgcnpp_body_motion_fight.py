"""The sibling of stgcnpp_body_bone_fight.py that sees movement and interaction.

Velocity of every joint against the trunk, its length, how active each person is, how much two
have to do with each other, and the peaks of both over the clip: the measures that rank people.
"""

_base_ = "stgcnpp_body_bone_fight.py"

feats = ["v", "s", "a", "i", "p"]
body = dict(type="BodyInput", clip_len=32, num_person=3, feats=feats)
pack = dict(type="PackActionInputs")

model = dict(backbone=dict(in_channels=9))
train_dataloader = dict(dataset=dict(pipeline=[*_base_.train_pipeline[:-2], body, pack]))
test_dataloader = dict(dataset=dict(pipeline=[body, pack]))
