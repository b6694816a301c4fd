#include <algorithm>
#include <limits>
#include <memory>
#include <string>

#include "attributes.hpp"
#include "many_inputs.hpp"
#include "norm_node.hpp"
#include "operators.hpp"
#include "passes/average_pool.hpp"
#include "passes/concat.hpp"
#include "session_threads.hpp"
#include "shape_inference.hpp"

namespace bytenorm::ort {
namespace {

struct ConcatAttributes : NormAttributes {
    bool pool;

    ConcatAttributes(const OrtApi* api, const OrtKernelInfo* info)
        : NormAttributes(api, info), pool(choice_attribute(api, info, "pool", 2) == 2) {}
};

// What the pieces' shapes say, as far as they are known; an axis that is not is -1, or ndim 0 for all.
class Pieces {
  public:
    Pieces(std::vector<Shape> shapes, const std::vector<std::string>& names)
        : shapes_(std::move(shapes)), names_(names) {}

    // Refuses pieces that do not fit together. Each is compared with what those before it say together, not with
    // each of them: there may be a hundred thousand.
    void check(const ConcatAttributes& attributes) const {
        Shape said;                      // as far as the pieces so far know it
        size_t says[max_dims] = {};      // the first piece that knows a dimension
        size_t ranked = shapes_.size();  // the first piece that knows how many there are
        for (size_t i = 0; i < shapes_.size(); ++i) {
            const Shape& shape = shapes_[i];
            if (shape.ndim == 0) continue;
            const int axis = channel_axis(names_[i], shape, attributes);
            if (attributes.pool && shape.ndim != 4)
                throw Refusal(names_[i] + " must have 4 dimensions where attribute pool is 2, got shape " +
                              shape.text());
            if (ranked == shapes_.size()) {
                ranked = i, said = shape;
                std::fill(says, says + shape.ndim, i);
                continue;
            }
            if (shape.ndim != said.ndim) refuse(ranked, i, axis);
            for (int d = 0; d < shape.ndim; ++d) {
                if (d == axis || shape.dims[d] < 0) continue;
                if (said.dims[d] < 0) said.dims[d] = shape.dims[d], says[d] = i;
                if (said.dims[d] != shape.dims[d]) refuse(says[d], i, axis);
            }
        }
    }

    // How many channels each piece has; empty if that is not known of all.
    std::vector<int64_t> channels(const ConcatAttributes& attributes) const {
        std::vector<int64_t> counts;
        for (size_t i = 0; i < shapes_.size(); ++i) {
            if (shapes_[i].ndim == 0) return {};
            counts.push_back(shapes_[i].dims[channel_axis(names_[i], shapes_[i], attributes)]);
            if (counts.back() < 0) return {};
        }
        return counts;
    }

    const Shape& operator[](size_t i) const { return shapes_[i]; }

  private:
    [[noreturn]] void refuse(size_t first, size_t second, int axis) const {
        throw Refusal(names_[second] + " must have the shape of " + names_[first] +
                      " but for its channels on axis " + std::to_string(axis) + ", " + shapes_[first].text() +
                      ", got " + shapes_[second].text());
    }

    std::vector<Shape> shapes_;
    const std::vector<std::string>& names_;
};

// All inputs but the pieces.
struct Parameters : ManyParameters {
    using ManyParameters::ManyParameters;

    // `channels` of each piece; empty if not known.
    void check(const ConcatAttributes& attributes, const std::vector<int64_t>& channels, size_t pieces) const {
        Channels wanted;
        if (!channels.empty()) {
            int64_t sum = 0;
            for (int64_t count : channels) {
                // Empty pieces may claim any number of channels.
                if (count > std::numeric_limits<int64_t>::max() - sum)
                    throw Refusal("the pieces have more than 2^63 - 1 channels together");
                sum += count;
            }
            wanted.from(sum, pieces == 1 ? "x_0 has " + std::to_string(sum) + " channels"
                                         : "x_0 to x_" + std::to_string(pieces - 1) + " have " +
                                               std::to_string(sum) + " channels together");
        }
        ManyParameters::check(attributes, wanted, pieces, "pieces");
    }

    std::unique_ptr<Folded> fold(const ConcatAttributes& attributes, const std::vector<int64_t>& channels,
                                 bool input_signed, bool output_signed) const {
        std::vector<double> steps;
        std::vector<int64_t> zeros;
        for (size_t i = 0; i < channels.size(); ++i) {
            const size_t count = static_cast<size_t>(channels[i]);
            steps.insert(steps.end(), count, static_cast<double>(scales.floats()[i]));
            zeros.insert(zeros.end(), count, code_of(zero_points, static_cast<int64_t>(i), input_signed));
        }
        const InputQuantization input{0.0, 0, steps.data(), zeros.data()};
        return norm.fold(attributes, input, input_signed, output_signed, "x_scales");
    }
};

class ConcatNode final : public NormNode<ConcatAttributes> {
  public:
    ConcatNode(const OrtApi* api, const OrtKernelInfo* info, bool input_signed, bool output_signed)
        : NormNode(api, info, input_signed, output_signed),
          names_(many_names(api, info, "piece")),
          pieces_(names_.size()) {
        std::vector<Shape> shapes;
        for (size_t i = 0; i < pieces_; ++i)
            shapes.push_back(input_shape(api, info, Many::first + i, names_[i].c_str()));
        Pieces pieces(std::move(shapes), names_);
        pieces.check(attributes_);
        channels_ = pieces.channels(attributes_);
        const Parameters constant(Inputs(api, info));
        constant.check(attributes_, channels_, pieces_);
        constant_ = constant.complete();
        if (constant_ && !channels_.empty())
            folded_ = constant.fold(attributes_, channels_, input_signed_, output_signed_);
    }

    void compute(OrtKernelContext* context) override {
        std::vector<Tensor> tensors;
        std::vector<Shape> shapes;
        tensors.reserve(pieces_), shapes.reserve(pieces_);
        for (size_t i = 0; i < pieces_; ++i) {
            tensors.push_back(input(api, context, Many::first + i, names_[i].c_str()));
            shapes.push_back(tensors.back().shape);
            channel_axis(names_[i], shapes.back(), attributes_);  // there must be one
        }
        Pieces pieces(std::move(shapes), names_);
        pieces.check(attributes_);
        const std::vector<int64_t> channels = pieces.channels(attributes_);
        const std::shared_ptr<Folded> folded = fold(context, channels);

        Shape shape = pieces[0];
        const int axis = channel_axis(names_[0], shape, attributes_);
        shape.dims[axis] = folded->channels();
        if (attributes_.pool)
            run_average_pool(context, *folded, tensors, channels, shape);
        else
            run(context, *folded, tensors, shape, axis);
    }

  private:
    // Constant parameters are folded for the numbers of channels that the pieces had last: as a rule they stay.
    std::shared_ptr<Folded> fold(const OrtKernelContext* context, const std::vector<int64_t>& channels) {
        if (constant_) {
            std::lock_guard<std::mutex> guard(mutex_);
            if (folded_ && channels == channels_) return folded_;
        }
        const Parameters given(Inputs(api, context));
        given.check(attributes_, channels, pieces_);
        std::shared_ptr<Folded> made = given.fold(attributes_, channels, input_signed_, output_signed_);
        if (constant_) {
            std::lock_guard<std::mutex> guard(mutex_);
            folded_ = made, channels_ = channels;
        }
        return made;
    }

    Use use() const { return constant_ ? Use::often : Use::once; }

    void run(OrtKernelContext* context, Folded& folded, const std::vector<Tensor>& tensors, const Shape& shape,
             int axis) {
        uint8_t* y = output(api, context, 0, "y", shape);
        if (shape.empty()) return;
        const Strides y_strides(shape);
        std::vector<Strides> strides;
        strides.reserve(pieces_);
        ConcatArrays arrays{{}, y, y_strides.steps, shape.ndim, axis};
        arrays.pieces.reserve(pieces_);
        for (const Tensor& tensor : tensors) {
            strides.emplace_back(tensor.shape);
            arrays.pieces.push_back({tensor.bytes(), strides.back().steps, tensor.shape.dims});
        }
        const ConcatLayout layout(arrays);
        const Plan plan = prepared(choose_concat(layout, use()), folded);
        apply_concat(plan, folded, layout, SessionThreads(api, context));
    }

    void run_average_pool(OrtKernelContext* context, Folded& folded, const std::vector<Tensor>& tensors,
                          const std::vector<int64_t>& channels, Shape shape) {
        const int height = attributes_.channels_last ? 1 : 2;
        AveragedArrays arrays{};
        arrays.images = shape.dims[0], arrays.height = shape.dims[height], arrays.width = shape.dims[height + 1];
        arrays.channels_last = attributes_.channels_last;
        shape.dims[height] /= 2, shape.dims[height + 1] /= 2;
        arrays.y = output(api, context, 0, "y", shape);
        if (shape.empty()) return;
        for (size_t i = 0; i < pieces_; ++i)
            if (channels[i] > 0) arrays.pieces.push_back({tensors[i].bytes(), channels[i]});
        const Plan plan = prepared(choose_average_pool(arrays, use()), folded);
        apply_average_pool(plan, folded, arrays, SessionThreads(api, context));
    }

    const std::vector<std::string> names_;
    const size_t pieces_;
    bool constant_;                  // all parameters are
    std::vector<int64_t> channels_;  // of each piece, that `folded_` is for
    std::shared_ptr<Folded> folded_;
};

class QLinearConcatBatchNormalization final : public ManyOp<ConcatNode> {
  public:
    QLinearConcatBatchNormalization(const OrtApi* api, ElementType input, ElementType output)
        : ManyOp(api, "QLinearConcatBatchNormalization", input, output) {}

    // The shape of the first piece, with all channels, pooled if the attribute says so.
    void infer_shapes(OrtShapeInferContext* context) const override {
        KnownShape y = known_input(api, context, Many::first);
        if (y.shape.ndim < 2) return;
        const bool last = integer_attribute_of(api, context, "channels_last") == 1;
        const int axis = last ? y.shape.ndim - 1 : 1;
        const Shape parameter = known_input(api, context, Many::scale).shape;
        y.set(axis, parameter.ndim == 1 ? parameter.dims[0] : -1);
        if (integer_attribute_of(api, context, "pool") == 2 && y.shape.ndim == 4)
            for (int d : {last ? 1 : 2, last ? 2 : 3}) y.set(d, y.shape.dims[d] < 0 ? -1 : y.shape.dims[d] / 2);
        infer_output(api, context, 0, y, Many::y_zero_point);
    }
};

}  // namespace

std::vector<const CustomOp*> qlinear_concat_batch_norms(const OrtApi* api) {
    return of_all_types<QLinearConcatBatchNormalization>(api);
}

}  // namespace bytenorm::ort
