"""The list of layers that builders log, in the form of TensorRT-RTX and in that of TensorRT 10."""

from __future__ import annotations

from kdna_deploy.targets.tensorrt.layers import EngineTensor, parse_layers

RTX = (
    "Name: conv_myl0_5, LayerType: correlation, Inputs: [ { Name: a, Dimensions: [-1,64,56,56], Strides: [1,2,3,4], "
    "StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }, { Name: b, Dimensions: [2], "
    "Strides: [1], StrideOrder: [0], Datatype: Half, Format: (Linear) Row major linear format }], Constants: [ { "
    "Name: w, Dimensions: [64,64,3,3], Strides: [576,1,192,64], StrideOrder: [3,0,2,1], Datatype: Float, Format: "
    "(NHWC) Channel major format }], Outputs: [ { Name: c, Dimensions: [-1,64,56,56], Strides: [1,2,3,4], "
    "StrideOrder: [3,0,2,1], Datatype: Float, Format: (NHWC) Channel major format }], TacticName: t, StreamId: 0, "
    "Metadata: [ONNX Layer: node_conv][ONNX Layer: node_relu][ONNX Layer: node_conv]"
)
TENSORRT_10 = (
    "Name: Reformatting CopyNode for Input Tensor 0 to conv, LayerType: Reformat, Inputs: [ { Name: images, Location: "
    "Device, Dimensions: [1,3,224,224], Format/Datatype: Row major linear FP32 }], Outputs: [ { Name: copy, Location: "
    "Device, Dimensions: [1,3,224,224], Format/Datatype: Channel major FP32 }], ParameterType: Reformat, Origin: "
    "REFORMAT, TacticValue: 0x0, StreamId: 0, Metadata: "
)
EMPTY = "Name: s, LayerType: signal, Inputs: [], Constants: [], Outputs: [], TacticName: , StreamId: 0, Metadata: "


def test_a_layer_tells_its_nodes_tensors_and_weights() -> None:
    (layer,) = parse_layers([f"Engine Layer Information:\nLayers:\n{RTX}\n"])
    assert (layer.name, layer.kind, layer.nodes) == ("conv_myl0_5", "correlation", ("node_conv", "node_relu"))
    nhwc = "(NHWC) Channel major format"
    assert layer.inputs == (
        EngineTensor("a", (-1, 64, 56, 56), "Float", nhwc),
        EngineTensor("b", (2,), "Half", "(Linear) Row major linear format"),
    )
    assert layer.outputs == (EngineTensor("c", (-1, 64, 56, 56), "Float", nhwc),)
    assert layer.constants == (EngineTensor("w", (64, 64, 3, 3), "Float", nhwc),)


def test_the_older_form_has_type_and_layout_in_one_field_and_no_constants() -> None:
    (layer,) = parse_layers([TENSORRT_10])
    assert (layer.kind, layer.nodes, layer.constants) == ("Reformat", (), ())
    assert [tensor.datatype for tensor in (*layer.inputs, *layer.outputs)] == [
        "Row major linear FP32",
        "Channel major FP32",
    ]


def test_layers_come_in_the_order_of_execution_whatever_stands_between() -> None:
    layers = parse_layers(["chatter", f"{RTX}\n\n{EMPTY}", TENSORRT_10])
    assert [layer.kind for layer in layers] == ["correlation", "signal", "Reformat"]
    assert layers[1].inputs == ()


def test_an_unknown_form_gives_no_layers() -> None:
    assert parse_layers(["Layer(Cask): conv, Tactic: 0x1", "LayerType: x, Name: y", ""]) == ()
