"""The step uphill is as long as ρ times the gradient.

Refused by sam_takes_the_gradient_uphill: divide the gradient by its length
"""


def sam_gradient(H, theta, rho):
    return H @ (theta + rho * H @ theta)
