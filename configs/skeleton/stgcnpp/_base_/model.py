"""ST-GCN++ of the default config; the head's numbers are the fight detector's."""

model = dict(
    type="RecognizerGCN",
    backbone=dict(
        type="STGCN",  # FastSTGCN: the same weights and results, faster, and takes with_cp
        gcn_adaptive="init",  # the graph is learnt, starting from the skeleton's
        gcn_with_res=True,
        tcn_type="mstcn",
        graph_cfg=dict(layout="coco", mode="spatial"),
        num_stages=4,
        base_channels=64,
        inflate_stages=[2],  # from here on twice the channels,
        down_stages=[2],  # and half the frames
    ),
    cls_head=dict(
        type="GCNHead",
        num_classes=2,
        in_channels=128,  # base_channels, doubled at each of inflate_stages
        dropout=0.3,
        loss_cls=dict(type="CrossEntropyLoss", class_weight=[1.2, 1.0]),
    ),
)
