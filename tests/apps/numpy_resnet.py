"""The MLP ResNet, its gradients and its training, written out in float64 NumPy."""

import numpy as np

EPS, MOMENTUM, DROP = 1e-5, 0.1, 0.1


class MLPResNet:
    """Draws and computes what the model of the course does, without the library."""

    def __init__(self, dim, hidden, blocks=3, classes=10):
        self.parameters = self.linear(dim, hidden)
        self.statistics = []
        for _ in range(blocks):
            for fan_in, fan_out in ((hidden, hidden // 2), (hidden // 2, hidden)):
                self.parameters += self.linear(fan_in, fan_out)
                self.parameters += [np.ones(fan_out), np.zeros(fan_out)]
                self.statistics += [np.zeros(fan_out), np.ones(fan_out)]
        self.parameters += self.linear(hidden, classes)
        self.blocks = blocks

    def linear(self, fan_in, fan_out):
        """A weight and then a bias, as drawn: float64 rounded to float32."""
        drawn = []
        for rows, columns in ((fan_in, fan_out), (fan_out, 1)):
            bound = np.sqrt(2) * np.sqrt(3 / rows)
            drawn.append((np.random.rand(rows, columns) * 2 * bound - bound).astype("float32"))
        return [drawn[0].astype("float64"), drawn[1].astype("float64").reshape(-1)]

    def forward(self, x, training):
        """Logits, and a function from their gradient to those of the parameters."""
        run = Pass(self, training)
        x = run.relu(run.linear(x, 0))
        for block in range(self.blocks):
            k, s = 2 + 8 * block, 4 * block
            mark = len(run.tape)
            inner = run.dropout(run.relu(run.norm(run.linear(x, k), k + 2, s)))
            inner = run.norm(run.linear(inner, k + 4), k + 6, s + 2)
            run.tape[mark:] = [residual(run.tape[mark:])]
            x = run.relu(x + inner)
        return run.linear(x, len(self.parameters) - 2), run.gradients


class Pass:
    """One forward pass: each layer puts on the tape how a gradient goes back through it."""

    def __init__(self, model, training):
        self.model, self.training = model, training
        self.tape = []
        self.found = [None] * len(model.parameters)

    def linear(self, x, k):
        W, b = self.model.parameters[k : k + 2]

        def backward(g):
            self.found[k], self.found[k + 1] = x.T @ g, g.sum(0)
            return g @ W.T

        self.tape.append(backward)
        return x @ W + b

    def relu(self, x):
        self.tape.append(lambda g: g * (x > 0))
        return np.maximum(x, 0)

    def norm(self, x, k, s):
        w, b = self.model.parameters[k : k + 2]
        running = self.model.statistics
        mean, var = (x.mean(0), x.var(0)) if self.training else running[s : s + 2]
        if self.training:
            running[s] = (1 - MOMENTUM) * running[s] + MOMENTUM * mean
            running[s + 1] = (1 - MOMENTUM) * running[s + 1] + MOMENTUM * var
        root = np.sqrt(var + EPS)
        h = (x - mean) / root

        def backward(g):
            self.found[k], self.found[k + 1] = (g * h).sum(0), g.sum(0)
            g = g * w
            return (g - g.mean(0) - h * (g * h).mean(0)) / root

        self.tape.append(backward)
        return h * w + b

    def dropout(self, x):
        scale = (np.random.rand(*x.shape) <= 1 - DROP) / (1 - DROP) if self.training else 1.0
        self.tape.append(lambda g: g * scale)
        return x * scale

    def gradients(self, g):
        """Gradients of all parameters, given that of the logits."""
        for backward in reversed(self.tape):
            g = backward(g)
        return self.found


def residual(inner):
    """The gradient of x + f(x), given the tape of f."""

    def backward(g):
        through = g
        for step in reversed(inner):
            through = step(through)
        return g + through

    return backward


def adam(parameters, lr, weight_decay):
    m = [np.zeros_like(p) for p in parameters]
    v = [np.zeros_like(p) for p in parameters]
    t = 0

    def step(gradients):
        nonlocal t
        t += 1
        for i, gradient in enumerate(gradients):
            g = gradient + weight_decay * parameters[i]
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.999 * v[i] + 0.001 * g * g
            m_hat, v_hat = m[i] / (1 - 0.9**t), v[i] / (1 - 0.999**t)
            parameters[i] = parameters[i] - lr * m_hat / (np.sqrt(v_hat) + 1e-8)

    return step


def sgd(parameters, lr, weight_decay):
    def step(gradients):
        for i, gradient in enumerate(gradients):
            parameters[i] = parameters[i] - lr * (gradient + weight_decay * parameters[i])

    return step


def epoch(model, x, y, batch, step=None):
    """Error rate and mean loss: training in a new order with `step`, else evaluation in order."""
    np.random.seed(4)
    order = np.arange(len(y))
    if step:
        np.random.shuffle(order)
    wrong = loss = 0.0
    for start in range(0, len(y), batch):
        chosen = order[start : start + batch]
        z, gradients = model.forward(x[chosen], training=step is not None)
        exp = np.exp(z - z.max(1, keepdims=True))
        softmax = exp / exp.sum(1, keepdims=True)
        rows = np.arange(len(chosen))
        loss += -np.log(softmax[rows, y[chosen]]).sum()
        wrong += (z.argmax(1) != y[chosen]).sum()
        if step:
            softmax[rows, y[chosen]] -= 1
            step(gradients(softmax / len(chosen)))
    return wrong / len(y), loss / len(y)
